/* Recognises other formats by their first bytes. */
#include "frontend/looks_like.h"

#include <stdbool.h>
#include <string.h>

typedef struct mark {
  size_t offset;
  const char *bytes;
  size_t length;
  onnx_guess_t guess;
} mark_t;

#define MARK(offset, bytes, what, remedy)             \
  {                                                   \
    offset, bytes, sizeof bytes - 1, { what, remedy } \
  }

static const mark_t marks[] = {
    MARK(0, "version https://git-lfs", "a Git LFS pointer, not the file itself",
         "fetch it with 'git lfs pull'"),
    MARK(0, "\177ELF", "an ELF file", "compiled models are for 'moec run'"),
    MARK(0, "\x1f\x8b", "a gzip archive", "decompress it first"),
    MARK(0, "BZh", "a bzip2 archive", "decompress it first"),
    MARK(0,
         "\xfd"
         "7zXZ",
         "an xz archive", "decompress it first"),
    MARK(0, "\x28\xb5\x2f\xfd", "a zstd archive", "decompress it first"),
    MARK(0, "PK\3\4", "a zip archive, as PyTorch's .pt files are",
         "export to ONNX with torch.onnx.export"),
    MARK(0, "GGUF", "a GGUF file of llama.cpp", NULL),
    MARK(0, "\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes",
         "export to ONNX with tf2onnx"),
    MARK(0, "\x93NUMPY", "a NumPy array", NULL),
    MARK(0, "\x80\2", "a Python pickle", "export to ONNX first"),
    MARK(0, "\x80\3", "a Python pickle", "export to ONNX first"),
    MARK(0, "\x80\4", "a Python pickle", "export to ONNX first"),
    MARK(0, "\x80\5", "a Python pickle", "export to ONNX first"),
    MARK(4, "ORTM", "a model in ONNX Runtime's own format (.ort)",
         "use the ONNX model that it was made from"),
    MARK(4, "TFL3", "a TensorFlow Lite model", "convert it to ONNX first"),
    MARK(0, "BC\xc0\xde", "LLVM bitcode", NULL),
    MARK(0, "!<arch>\n", "a static library", NULL),
    MARK(0, "MZ", "a Windows program or library", NULL),
    MARK(0, "%PDF", "a PDF document", NULL),
    MARK(0, "\x89PNG", "a PNG picture", NULL),
    MARK(0, "#!", "a script", NULL),
    MARK(0, "<?xml", "an XML file, as OpenVINO writes", NULL),
    MARK(0, "<!DOCTYPE", "a web page", "was the download redirected?"),
    MARK(0, "<html", "a web page", "was the download redirected?"),
    MARK(0, "module ", "textual IR", "it should be named *.moeir"),
    MARK(0, "func @", "textual IR", "it should be named *.moeir"),
};

/* safetensors: length of a JSON header, 8 bytes little endian, and the header.
 */
static bool is_safetensors(const uint8_t *bytes, size_t length) {
  if (length < 10 || bytes[8] != '{') return false;
  uint64_t header = 0;
  for (unsigned i = 0; i < 8; i++) header |= (uint64_t)bytes[i] << (8 * i);
  return header >= 2 && header <= length - 8 &&
         (bytes[8 + header - 1] == '}' || bytes[8 + header - 1] == ' ');
}

static bool is_space(uint8_t c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Whether the first bytes are printable ASCII, and enough to tell. */
static bool is_plain_text(const uint8_t *bytes, size_t length) {
  if (length < 4) return false;
  if (length > 256) length = 256;
  for (size_t i = 0; i < length; i++)
    if ((bytes[i] < ' ' && !is_space(bytes[i])) || bytes[i] > '~') return false;
  return true;
}

static onnx_guess_t guess_text(const uint8_t *bytes, size_t length) {
  size_t i = 0;
  while (i < length && is_space(bytes[i])) i++;
  if (i < length && (bytes[i] == '{' || bytes[i] == '['))
    return (onnx_guess_t){"JSON", "write the model in binary form"};
  size_t n = length - i < 256 ? length - i : 256;
  if (i < length &&
      (bytes[i] == '<' || memmem(bytes + i, n, "ir_version", 10) != NULL))
    return (onnx_guess_t){"ONNX in text form",
                          "write it in binary form, for example with "
                          "onnx.parser.parse_model and onnx.save"};
  return (onnx_guess_t){"a text file", NULL};
}

onnx_guess_t onnx_looks_like(const uint8_t *bytes, size_t length) {
  for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
    const mark_t *mark = &marks[i];
    if (length >= mark->offset + mark->length &&
        memcmp(bytes + mark->offset, mark->bytes, mark->length) == 0)
      return mark->guess;
  }
  if (is_safetensors(bytes, length))
    return (onnx_guess_t){"a safetensors file",
                          "it has weights only: export the model to ONNX"};
  if (is_plain_text(bytes, length)) return guess_text(bytes, length);
  return (onnx_guess_t){NULL, NULL};
}
