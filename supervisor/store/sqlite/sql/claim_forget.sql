DELETE FROM claim WHERE at < ? AND schedule NOT IN (SELECT name FROM schedule)
