"""The worker: takes jobs of its slot, runs them, records what came of them."""
