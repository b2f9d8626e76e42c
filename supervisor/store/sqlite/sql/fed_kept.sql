SELECT (
  SELECT CASE count(*) WHEN 0 THEN NULL ELSE
    '"steps":{' || coalesce(group_concat(json_quote(name) || ':' || value) FILTER (WHERE name <> ''), '')
    || '},"cursor":' || coalesce(max(value) FILTER (WHERE name = ''), 'null') END
  FROM checkpoint WHERE checkpoint.id = wanted.value
)
FROM json_each(?) AS wanted
