"""Give every row of a table a calibrated class, or abstain; the cost follows the changed rows."""
