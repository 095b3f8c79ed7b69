/**
 * Imported before onnxruntime-node, for its effect: from 1.29 on the runtime reports sessions, names and hashes of models
 * to Microsoft and keeps an identifier of the machine in ~/.cache, unless this is set when it starts (Linux and macOS; on
 * Windows the operating system decides). A node talks to its peers and to nobody else. Whoever has set it keeps it.
 */
process.env.ORT_DISABLE_TELEMETRY ??= '1'
