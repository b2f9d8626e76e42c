SELECT step.id, flow.id, flow.name, step.name, flow.context, parent.name, parent.kind,
       CASE parent.kind WHEN 0 THEN outcome.state WHEN 1 THEN within.state END, parent.skipped,
       CASE parent.kind WHEN 0 THEN outcome.result WHEN 2 THEN signal.payload END, within.id
FROM json_each(?) AS wanted CROSS JOIN step ON step.id = wanted.value CROSS JOIN flow ON flow.id = step.flow
LEFT JOIN edge ON edge.child = step.id LEFT JOIN step AS parent ON parent.id = edge.parent
LEFT JOIN outcome ON outcome.id = edge.parent AND parent.kind = 0
LEFT JOIN flow AS within ON within.id = edge.parent AND parent.kind = 1
LEFT JOIN signal ON signal.id = edge.parent AND parent.kind = 2
