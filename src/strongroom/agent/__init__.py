"""On every database host: the job API, job directories, and the life of database servers."""
