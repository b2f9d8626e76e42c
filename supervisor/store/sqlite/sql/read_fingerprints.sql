SELECT letter.id, letter.fingerprint, letter.queue
FROM json_each(?) AS wanted CROSS JOIN letter ON letter.id = wanted.value
