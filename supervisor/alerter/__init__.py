"""The alerter: runs the alert command when the keeper says so, with no database and no code of users."""
