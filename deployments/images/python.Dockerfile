# python:3.11 as a person expects it, on this machine's own Debian: the interpreter under both names, UTF-8.
ARG BASE
FROM ${BASE}
ENV LANG=C.UTF-8 PYTHONUNBUFFERED=1
RUN ln -s /usr/bin/python3 /usr/local/bin/python
CMD ["python3"]
