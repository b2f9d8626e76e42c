SELECT name FROM queue WHERE paused
