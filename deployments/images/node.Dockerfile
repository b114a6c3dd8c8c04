# node:24 from the wheel that the lock file pins by hash; the build context carries it, so nothing is fetched here.
ARG BASE
FROM ${BASE}
ENV LANG=C.UTF-8
COPY node /usr/local
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm \
 && ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx
CMD ["node"]
