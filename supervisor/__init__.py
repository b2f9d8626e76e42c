"""jobsup: background jobs on a Linux host. Nothing depends on what this file contains."""
