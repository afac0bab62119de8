# The service for one machine, without a GPU. How to build and run it: docs/install.md
FROM python:3.11-slim AS build
WORKDIR /build
COPY constraints.txt ./
RUN python -m venv /opt/sficonv \
 && /opt/sficonv/bin/pip install --no-cache-dir -c constraints.txt \
        --index-url https://download.pytorch.org/whl/cpu torch torchvision
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/sficonv/bin/pip install --no-cache-dir -c constraints.txt '.[serve]'

FROM python:3.11-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin sficonv \
 && install -d -o sficonv -g sficonv -m 700 /data
COPY --from=build /opt/sficonv /opt/sficonv
# nothing is written but to /data and /tmp, so the root file system may be read-only
ENV PATH=/opt/sficonv/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=2m \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/api/health', timeout=8)"]
ENTRYPOINT ["sficonv", "serve", "--host", "0.0.0.0", "--folder", "/data"]
# the names under which it may be called; this machine's own are always allowed
CMD ["--allowed-hosts", "localhost"]
