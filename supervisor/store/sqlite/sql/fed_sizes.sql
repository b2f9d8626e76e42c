SELECT coalesce((SELECT sum(length(CAST(value AS BLOB))) FROM checkpoint WHERE checkpoint.id = wanted.value), 0)
     + coalesce((
         SELECT length(CAST(root.context AS BLOB))
         FROM step CROSS JOIN flow ON flow.id = step.flow CROSS JOIN flow AS root ON root.id = flow.root
         WHERE step.id = wanted.value
       ), 0)
     + coalesce((
         SELECT sum(length(CAST(coalesce(outcome.result, signal.payload) AS BLOB)))
         FROM edge CROSS JOIN step AS parent ON parent.id = edge.parent
         LEFT JOIN outcome ON outcome.id = CASE parent.kind WHEN 0 THEN parent.id END
         LEFT JOIN signal ON signal.id = CASE parent.kind WHEN 2 THEN parent.id END
         WHERE edge.child = wanted.value AND parent.name IS NOT NULL
       ), 0)
FROM json_each(?) AS wanted
