/* Makes a function at run time, tells perf its name, and uses the CPU in it. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
/* mov %edi, %ecx; 1: dec %ecx; jnz 1b; ret; with a frame pointer around it */
static const unsigned char code[] = { 0x55, 0x48, 0x89, 0xe5, 0x89, 0xf9, 0xff, 0xc9,
				      0x75, 0xfc, 0x5d, 0xc3 };
#elif defined(__aarch64__)
/* 1: subs w0, w0, #1; b.ne 1b; ret */
static const uint32_t code[] = { 0x71000400, 0x54ffffe1, 0xd65f03c0 };
#endif

int main(void)
{
	void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return 1;
	memcpy(memory, code, sizeof(code));
	__builtin___clear_cache(memory, (char *)memory + sizeof(code));
	if (mprotect(memory, 4096, PROT_READ | PROT_EXEC) != 0)
		return 1;

	char path[64];
	snprintf(path, sizeof(path), "/tmp/perf-%d.map", getpid());
	FILE *map = fopen(path, "w");
	if (!map)
		return 1;
	fprintf(map, "%lx %zx made at run time\n", (unsigned long)memory, sizeof(code));
	fclose(map);

	void (*spin)(unsigned) = memory;
	for (int i = 0; i < 1500; i++)
		spin(1000000);
	unlink(path);
	return 0;
}
