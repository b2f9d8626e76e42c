SELECT edge.child, parent.name, parent.kind, coalesce(outcome.state, inside.state), parent.skipped,
       coalesce(outcome.result, signal.payload), inside.id
FROM json_each(?) AS wanted CROSS JOIN edge ON edge.child = wanted.value CROSS JOIN step AS parent ON parent.id = edge.parent
LEFT JOIN outcome ON outcome.id = CASE parent.kind WHEN 0 THEN parent.id END
LEFT JOIN flow AS inside ON inside.id = CASE parent.kind WHEN 1 THEN parent.id END
LEFT JOIN signal ON signal.id = CASE parent.kind WHEN 2 THEN parent.id END
WHERE parent.name IS NOT NULL
