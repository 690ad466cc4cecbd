"""The GPU side: the Celery worker, the engine that denoises, and the images it saves."""
