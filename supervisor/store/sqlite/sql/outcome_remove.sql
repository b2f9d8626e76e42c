DELETE FROM outcome WHERE id = ?
