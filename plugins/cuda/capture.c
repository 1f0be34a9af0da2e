/*
 * capture.c - recorded steps, as CUDA graphs.
 *
 * Recording is relaxed: what other streams do meanwhile is their affair, and scratch may be made
 * while a step is recorded (memory.c never moves it afterwards).
 */
#include <stdlib.h>

#include "plugin.h"

struct octet_graph {
    octet_device *dev;
    octet_stream *of;
    CUgraphExec exec;
};

int32_t oct_cuda_capture_begin(octet_stream *s) {
    CUDA_TRY(oct_cuda_enter(s->dev));
    if (s->recording)
        return oct_cuda_fail(s->dev, OCTET_E_INVALID, "capture_begin: already recording");
    CU_TRY(s->dev, cuStreamBeginCapture, s->stream, CU_STREAM_CAPTURE_MODE_RELAXED);
    s->recording = 1;
    return OCTET_OK;
}

static int32_t make_exec(octet_stream *s, CUgraph graph, octet_graph *g) {
    CU_TRY(s->dev, cuGraphInstantiateWithFlags, &g->exec, graph, 0);
    CU_TRY(s->dev, cuGraphUpload, g->exec, s->stream);
    return OCTET_OK;
}

int32_t oct_cuda_capture_end(octet_stream *s, octet_graph **out) {
    CUgraph graph = NULL;
    *out = NULL;
    CUDA_TRY(oct_cuda_enter(s->dev));
    if (!s->recording)
        return oct_cuda_fail(s->dev, OCTET_E_INVALID, "capture_end: nothing is being recorded");
    s->recording = 0;
    CU_TRY(s->dev, cuStreamEndCapture, s->stream, &graph);
    octet_graph *g = calloc(1, sizeof *g);
    int32_t code = OCTET_E_NOMEM;
    if (g) {
        *g = (octet_graph){.dev = s->dev, .of = s};
        code = make_exec(s, graph, g);
    } else {
        code = oct_cuda_fail(s->dev, code, "capture_end: no memory");
    }
    (void)oct_cu.cuGraphDestroy(graph);
    if (code != OCTET_OK) {
        oct_cuda_graph_destroy(g);
        return code;
    }
    *out = g;
    return OCTET_OK;
}

int32_t oct_cuda_replay(octet_stream *s, octet_graph *g) {
    CUDA_TRY(oct_cuda_enter(s->dev));
    if (s->recording)
        return oct_cuda_fail(s->dev, OCTET_E_INVALID,
                             "replay: not between capture_begin and capture_end");
    if (g->of != s)
        return oct_cuda_fail(s->dev, OCTET_E_INVALID, "replay: recorded on another stream");
    CU_TRY(s->dev, cuGraphLaunch, g->exec, s->stream);
    return OCTET_OK;
}

void oct_cuda_graph_destroy(octet_graph *g) {
    if (!g) return;
    (void)oct_cuda_enter(g->dev);
    if (g->exec) {
        (void)oct_cu.cuStreamSynchronize(g->of->stream); /* a replay may be on its way */
        (void)oct_cu.cuGraphExecDestroy(g->exec);
    }
    free(g);
}
