SELECT state, token FROM outcome WHERE id = ?
