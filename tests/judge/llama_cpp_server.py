"""A GGUF file served by llama.cpp in this process; needs xllamacpp."""

import json
import os
import urllib.request

import xllamacpp

os.environ["NO_PROXY"] = "127.0.0.1"


def serve(file, lora=None, slots=1, context=0):
    """f32 throughout: by default keys and values are f16. The context is that of all slots together; 0 is what the file says."""
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.port = 0
    params.n_parallel = slots
    params.n_ctx = context
    params.n_gpu_layers = 0
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.fit_params = False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    if lora is not None:
        adapter = xllamacpp.CommonAdapterLoraInfo()
        adapter.path, adapter.scale = str(lora), 1.0
        params.lora_adapters = [adapter]
    return xllamacpp.Server(params)


def ask(address, route, body):
    request = urllib.request.Request(address + route, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)
