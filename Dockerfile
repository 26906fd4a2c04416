# The image contains Node and the built program, which includes its packages, but no build tools and no node_modules.
FROM node:24-alpine AS build
WORKDIR /build
COPY package.json package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY scripts ./scripts
COPY src ./src
RUN npm run build

FROM node:24-alpine
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /build/package.json ./
COPY --from=build /build/dist ./dist
COPY config/gitaly-tls-proxy.example.yaml config/gitaly-tls-proxy.schema.json ./config/
# The image's own user without rights. It writes nowhere: run it with a read-only root file system.
USER node
EXPOSE 9999 9237
STOPSIGNAL SIGTERM
# Looks at http://127.0.0.1:9237/-/liveness: where prometheus_listen_addr differs, give the URL as a further argument.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["node", "--disable-sigusr1", "dist/admin/health-check.js"]
# SIGUSR1 reloads, and never opens the debugger of Node, not even before the program handles the signal.
ENTRYPOINT ["node", "--disable-sigusr1", "--initial-old-space-size=64", "dist/cli.js"]
CMD ["serve", "--config", "/etc/gitaly-tls-proxy/gitaly-tls-proxy.yaml"]
