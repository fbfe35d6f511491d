"""Fine-tune sentence encoders: objectives, batches, `transformers.Trainer`, adapters, continual learning."""
