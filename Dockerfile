# syntax=docker/dockerfile:1
FROM node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
COPY runtime ./runtime
# No dependency needs its install script.
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN node node_modules/typescript/bin/tsc -p tsconfig.build.json \
 && cp src/console/*.html src/console/*.css src/console/*.svg dist/console/ && cp src/warm-start.js dist/ \
 && npm prune --omit=dev --ignore-scripts \
 # The scripts name sources, which the image lacks.
 && npm pkg delete scripts devDependencies

FROM node:24-bookworm-slim
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8080
WORKDIR /app
RUN install -d -o node -g node -m 0700 /data
COPY LICENSE ./
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY guardrails ./guardrails
COPY openapi/openapi.json ./openapi/
# Compiled code for a faster start: Node looks for it by uid, so node makes it, and then it is root's, whom nobody here can become.
RUN install -d -o node -g node -m 0700 node_modules/.cache/job-access
USER node
RUN node --import=/app/dist/warm-start.js --input-type=module -e "await import('/app/dist/compose.js'); await import('/app/dist/http/app.js')"
USER root
RUN chown -R root:root node_modules/.cache && chmod -R a+rX,go-w node_modules/.cache
USER node
# The ledger and the audit are written here, unless DATABASE_URL and JOB_ACCESS_AUDIT say otherwise.
WORKDIR /data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/healthz`).then(r => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# The service is started without a shell, so that SIGTERM reaches it. It then finishes its open requests (within 25 s).
STOPSIGNAL SIGTERM
# A small young generation, and an old one that is collected earlier, keep the memory small under load: docs/benchmarks.md.
ENTRYPOINT ["node", "--max-semi-space-size=4", "--heap-growing-percent=60", "--import=/app/dist/warm-start.js", "--disable-warning=ExperimentalWarning", "/app/dist/start.js"]
