DELETE FROM schedule WHERE name = ?
