SELECT lease.token, lease.owner, lease.queue, lease.leased_at, job.value
FROM lease CROSS JOIN json_each(lease.jobs) AS job
WHERE NOT EXISTS (SELECT 1 FROM outcome WHERE outcome.id = job.value ->> 0)
ORDER BY lease.token
