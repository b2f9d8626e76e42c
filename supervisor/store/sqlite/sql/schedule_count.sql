SELECT count(*), coalesce(sum(paused OR CAST(definition AS TEXT) ->> 'paused'), 0) FROM schedule
