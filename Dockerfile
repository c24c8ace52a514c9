# The image of sociable: one static binary, the certificate authorities, and an
# empty folder that belongs to the user it runs as. `make image` builds it.

FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH
ARG VERSION=(devel) COMMIT=
RUN make build GOOS=$TARGETOS GOARCH=$TARGETARCH VERSION="$VERSION" COMMIT="$COMMIT" \
 && mkdir -p /root-of-image/data /root-of-image/etc/ssl/certs \
 && cp bin/sociable /root-of-image/ \
 && cp /etc/ssl/certs/ca-certificates.crt /root-of-image/etc/ssl/certs/

FROM scratch
COPY --from=build --chown=65532:65532 /root-of-image/data /data
COPY --from=build /root-of-image/etc /etc
COPY --from=build /root-of-image/sociable /sociable
USER 65532:65532
# In the environment rather than in CMD: `sociable index list` finds it too.
ENV SOCIABLE_STORAGE_PATH=/data
EXPOSE 5000 5001
VOLUME /data
ENTRYPOINT ["/sociable"]
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s CMD ["/sociable", "healthcheck"]
# Every interface, for the container's port to be reachable. With an upstream
# that has credentials sociable refuses this, until SOCIABLE_ACCESS=open.
CMD ["serve", "--listen", "0.0.0.0:5000", "--admin", "0.0.0.0:5001"]
