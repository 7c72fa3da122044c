FROM golang:1.26-bookworm AS build
WORKDIR /src
RUN mkdir /data
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=""
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.release=${VERSION}" -o /out/ ./cmd/...

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/ /
USER 65532:65532
# The users of the embedded default, in ./data.
COPY --from=build --chown=65532:65532 /data /data
VOLUME /data
EXPOSE 8080 9901
ENTRYPOINT ["/gateway"]
