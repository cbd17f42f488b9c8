/* Reading opset imports. */
#include "frontend/opset.h"

#include <string.h>

const char *opset_domain(const char *domain) {
  if (domain == NULL || strcmp(domain, "ai.onnx") == 0) return "";
  return domain;
}

int opsets_version(const opsets_t *opsets, const char *domain) {
  for (unsigned i = 0; i < opsets->n; i++)
    if (strcmp(opsets->import[i].domain, domain) == 0)
      return opsets->import[i].version;
  return 0;
}

static moec_status_t check_version(const char *domain, int64_t version,
                                   ir_loc_t where, diag_sink_t *diag) {
  if (version < 1 || version > INT32_MAX)
    return diag_error(diag, where, MOEC_E_INVALID_MODEL,
                      "opset version %lld of domain \"%s\" is not a version",
                      (long long)version, domain);
  if (domain[0] != '\0') return MOEC_OK;
  if (version < ONNX_OLDEST_OPSET || version > ONNX_LATEST_OPSET) {
    moec_status_t status =
        diag_error(diag, where, MOEC_E_UNSUPPORTED,
                   "opset %lld is not supported, expected %d to %d",
                   (long long)version, ONNX_OLDEST_OPSET, ONNX_LATEST_OPSET);
    diag_note(diag, where, "onnx.version_converter converts between opsets");
    return status;
  }
  return MOEC_OK;
}

moec_status_t opsets_read(arena_t *arena, size_t n,
                          Onnx__OperatorSetIdProto *const *import,
                          ir_loc_t where, diag_sink_t *diag,
                          opsets_t *out_opsets) {
  moec_status_t status = MOEC_OK;
  opsets_t set = {0, ARENA_ARRAY(arena, opset_import_t, n)};
  for (size_t i = 0; i < n; i++) {
    const char *domain = opset_domain(import[i]->domain);
    int64_t version = import[i]->version;
    int before = opsets_version(&set, domain);
    if (before != 0) {
      if (before != version)
        status = diag_error(
            diag, where, MOEC_E_INVALID_MODEL,
            "domain \"%s\" is imported as opset %d and as opset %lld", domain,
            before, (long long)version);
      continue;
    }
    moec_status_t known = check_version(domain, version, where, diag);
    if (known != MOEC_OK) {
      status = known;
      continue;
    }
    set.import[set.n++] = (opset_import_t){domain, (int)version};
  }
  *out_opsets = set;
  return status;
}
