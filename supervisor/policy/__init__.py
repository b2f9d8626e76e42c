"""Pure decisions about jobs: what becomes of them, in which order, after which wait, for how long they are kept."""
