/*
 * fuzz/replay.c - a main for fuzz targets without libFuzzer: feeds every file of the folders and
 * files named on the command line to LLVMFuzzerTestOneInput, so that each past finding is an
 * ordinary test on every compiler. Fails when it was given nothing to replay.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned n_files;

static int replay_file(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return perror(path), 1;
    fseek(f, 0, SEEK_END);
    const long end = ftell(f);
    rewind(f);
    const size_t size = end > 0 ? (size_t)end : 0;
    uint8_t *data = malloc(size ? size : 1); /* exactly as long as the file: ASan sees an overrun */
    if (!data || fread(data, 1, size, f) != size) return fclose(f), free(data), perror(path), 1;
    fclose(f);
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    n_files++;
    return 0;
}

static int replay(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0) return perror(path), 1;
    if (!S_ISDIR(st.st_mode)) return replay_file(path);
    DIR *dir = opendir(path);
    if (!dir) return perror(path), 1;
    int bad = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        char sub[4096];
        if (e->d_name[0] == '.') continue;
        snprintf(sub, sizeof sub, "%s/%s", path, e->d_name);
        bad |= replay(sub);
    }
    closedir(dir);
    return bad;
}

int main(int argc, char **argv) {
    int bad = 0;
    for (int i = 1; i < argc; i++) bad |= replay(argv[i]);
    printf("replayed %u files\n", n_files);
    return bad || n_files == 0;
}
