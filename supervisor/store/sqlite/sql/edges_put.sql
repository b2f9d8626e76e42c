INSERT OR IGNORE INTO edge (parent, child, policy, done)
SELECT parent.value, CAST(wanted.key AS INTEGER), ?1, ?2 FROM json_each(?3) AS wanted CROSS JOIN json_each(wanted.value) AS parent
