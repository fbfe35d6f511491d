"""A class for every row of a table: calibrated, able to abstain, and as cheap as what changed."""
