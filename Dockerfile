# docker build -t denoise . && docker run --rm -v "$PWD:/data" denoise clean in -o out
FROM python:3.12-slim

RUN useradd --create-home denoise && mkdir /data && chown denoise /data
COPY . /source
# The CPU build of torch; the default one brings several gigabytes of CUDA. Tests and headers are not needed.
# The extra media holds x264 and x265: the image as a whole is GPL.
RUN pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir "/source[media,watch,web]" \
    && find /usr/local/lib -type d \( -name tests -o -path '*/torch/test' -o -path '*/torch/include' \) \
        -prune -exec rm -rf {} + \
    && rm -rf /source
USER denoise
WORKDIR /data
ENTRYPOINT ["denoise"]
CMD ["--help"]
