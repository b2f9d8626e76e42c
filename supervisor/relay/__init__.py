"""The relay of an outbox: an application's rows become jobs, with no code of users and without jobsup's database."""
