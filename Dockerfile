# One image for the producer and the worker: `docker run promptmill COMMAND`.
FROM python:3.12-slim

ENV PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    PROMPTMILL_HOME=/data

# The folders exist before the volumes do: a new volume takes its owner from them.
RUN useradd --create-home --uid 1000 promptmill \
    && install -d -o promptmill -g promptmill /data /prompts /images /home/promptmill/.cache/huggingface

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY configs configs
COPY db db
COPY producer producer
COPY worker worker
RUN pip install -c constraints.txt '.[notify,pipelines,postgres,web]'

USER promptmill
WORKDIR /prompts
ENTRYPOINT ["promptmill"]
CMD ["--help"]
