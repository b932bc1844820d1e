# One validator: the host process, and the enclave process that it starts.
#
# The enclave's measurement covers the Node binary that runs it, so both stages use the same base: what is measured while
# building is what runs. BASE may name any image with Node 26 and npm.
ARG BASE=node:26-bookworm-slim

FROM ${BASE} AS build
WORKDIR /src
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY . .
# Not through npm: that would measure the Node of node_modules instead of the one that runs in the end.
RUN node cli/camerata.cjs enclave build
# What is not bundled: the native store and what it needs.
RUN mkdir -p /out/node_modules /out/governance /empty \
 && cp -r package.json LICENSE dist /out/ \
 && cp -r governance/constitution /out/governance/ \
 && node -e 'const { cpSync, readFileSync } = require("fs"); \
      const seen = new Set(); \
      (function add(name) { \
        if (seen.has(name)) return; \
        seen.add(name); \
        cpSync("node_modules/" + name, "/out/node_modules/" + name, { recursive: true }); \
        const { dependencies = {} } = JSON.parse(readFileSync("node_modules/" + name + "/package.json")); \
        Object.keys(dependencies).forEach(add); \
      })("classic-level");' \
 && rm -rf /out/dist/.build /out/dist/*.json /out/dist/*.pem

FROM ${BASE}
LABEL org.opencontainers.image.title="camerata" \
      org.opencontainers.image.description="A confidential consortium blockchain node" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV NODE_ENV=production
COPY --from=build /out /opt/camerata
RUN ln -s /opt/camerata/dist/camerata /usr/local/bin/camerata \
 && printf '#!/bin/sh\nexec node /opt/camerata/dist/cli.mjs "$@"\n' > /opt/camerata/dist/camerata \
 && chmod 755 /opt/camerata/dist/camerata
# A named volume takes its owner from the image's directory when it is first mounted.
COPY --from=build --chown=10001:10001 /empty /var/lib/camerata
COPY --from=build --chown=10001:10001 /empty /keys
COPY --from=build --chown=10001:10001 /empty /public
USER 10001:10001
WORKDIR /var/lib/camerata
STOPSIGNAL SIGTERM
EXPOSE 8000 9000
ENTRYPOINT ["camerata"]
CMD ["--help"]
