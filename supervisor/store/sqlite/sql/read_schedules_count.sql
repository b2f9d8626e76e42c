SELECT count(*), coalesce(sum(paused OR CAST(definition AS TEXT) ->> 'paused'), 0) FROM schedule
WHERE CASE WHEN :scope = '' THEN instr(name, '/') = 0 ELSE substr(name, 1, length(:scope) + 1) = :scope || '/' END
