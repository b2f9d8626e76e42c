SELECT pool, source, vtime FROM source
