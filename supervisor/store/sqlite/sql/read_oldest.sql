SELECT lane.queue, (
  SELECT min(job.enqueued_at) FROM (
    SELECT id FROM (SELECT id FROM ready WHERE ready.lane = lane.id ORDER BY band, pos LIMIT 1)
    UNION ALL
    SELECT id FROM (SELECT id FROM ready WHERE ready.lane = lane.id ORDER BY band DESC, pos DESC LIMIT 1)
  ) AS ends JOIN job ON job.id = ends.id
) FROM lane
