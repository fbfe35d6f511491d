"""Opinion over time: shares of classes by topic and time, and alerts that are neither chance nor a change of model."""
