SELECT payload FROM job WHERE id = ?
