DELETE FROM task WHERE pool = ?
