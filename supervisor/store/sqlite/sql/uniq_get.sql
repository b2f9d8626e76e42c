SELECT uniq.hash, uniq.id, uniq.until, uniq.states, uniq.gone
FROM json_each(?) AS wanted CROSS JOIN uniq ON uniq.hash = wanted.value
