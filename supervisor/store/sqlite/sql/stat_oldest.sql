SELECT queue, minute FROM stat WHERE span = 1 AND minute < ? ORDER BY minute LIMIT 1
