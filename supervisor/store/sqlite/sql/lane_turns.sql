SELECT queue, count(*) FROM lane WHERE a IS NOT NULL GROUP BY queue
