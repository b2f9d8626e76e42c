SELECT '"flow":{"id":' || flow.id || ',"name":' || json_quote(flow.name) || ',"step":' || json_quote(step.name)
       || ',"context":' || coalesce(root.context, 'null') || (
         SELECT ',"results":{' || coalesce(group_concat(json_quote(parent.name) || ':' || coalesce(outcome.result, 'null'))
                  FILTER (WHERE parent.kind <> 2 AND (coalesce(outcome.state, inside.state) = 'completed' OR parent.skipped)), '')
             || '},"states":{' || coalesce(group_concat(
                  json_quote(parent.name) || CASE
                    WHEN coalesce(outcome.state, inside.state) = 'completed' THEN ':"completed"'
                    WHEN parent.skipped THEN ':"skipped"'
                    ELSE ':"' || coalesce(outcome.state, inside.state, 'unfinished') || '"'
                  END) FILTER (WHERE parent.kind <> 2), '')
             || '},"signals":{' || coalesce(group_concat(json_quote(parent.name) || ':' || signal.payload)
                  FILTER (WHERE signal.payload IS NOT NULL), '') || '}}'
         FROM edge CROSS JOIN step AS parent ON parent.id = edge.parent
         LEFT JOIN outcome ON outcome.id = CASE parent.kind WHEN 0 THEN parent.id END
         LEFT JOIN flow AS inside ON inside.id = CASE parent.kind WHEN 1 THEN parent.id END
         LEFT JOIN signal ON signal.id = CASE parent.kind WHEN 2 THEN parent.id END
         WHERE edge.child = step.id AND parent.name IS NOT NULL
       )
FROM json_each(?) AS wanted LEFT JOIN step ON step.id = wanted.value LEFT JOIN flow ON flow.id = step.flow
LEFT JOIN flow AS root ON root.id = flow.root
