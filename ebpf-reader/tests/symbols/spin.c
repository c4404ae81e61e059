/* Uses the CPU in a function with a name. With an argument: then shortens that file, which it has mapped. */
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

__attribute__((noinline)) unsigned long spin_with_a_name(unsigned long number)
{
	for (unsigned long i = 0; i < 1000000; i++)
		__asm__ volatile("" : "+r"(number));
	return number;
}

#ifndef LIBRARY
int main(int argc, char **argv)
{
	unsigned long (*spin)(unsigned long) = spin_with_a_name;
	if (argc > 1) {
		void *library = dlopen(argv[1], RTLD_NOW);
		if (!library)
			return 1;
		spin = (unsigned long (*)(unsigned long))dlsym(library, "spin_with_a_name");
	}
	for (int i = 0; i < 1500; i++)
		spin(i);
	/* Running on in it would end this program; its file is gone for everybody else. */
	return argc > 1 ? truncate(argv[1], 64) : 0;
}
#endif
