UPDATE blocked SET waits = waits - told.value FROM json_each(?) AS told WHERE blocked.id = CAST(told.key AS INTEGER)
