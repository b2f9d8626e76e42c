SELECT name, CASE name WHEN '' THEN value END FROM checkpoint WHERE id = ? ORDER BY at, name
