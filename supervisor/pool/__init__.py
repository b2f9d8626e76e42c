"""The foreman of a queue's pool: imports the application once, then forks, watches, times and buries its workers."""
