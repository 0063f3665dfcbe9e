/* An ELF kernel of a few bytes, as tests of what reads kernels need one. */
#pragma once

#include <elf.h>
#include <glib.h>
#include <string.h>

#define VERSION "6.1.0-test"
#define BANNER "Linux version " VERSION " (x@y)"

/* Of what is never a module, and of the drivers that are built in. */
#define BASE_WORDS "retain_initrd\0devtmpfs\0virtio_console\0"
#define DRIVER_WORDS "virtio-mmio\0virtio_blk\0virtio_net\0its name is ext4\0"

/* A kernel as small as one can be: one segment that holds the banner and words. */
static inline GByteArray *
small_kernel (void)
{
  struct {
    Elf64_Ehdr head;
    Elf64_Phdr segment;
    char banner[64];
    char words[sizeof BASE_WORDS];
  } file = { 0 };
  memcpy (file.head.e_ident, ELFMAG, SELFMAG);
  file.head.e_ident[EI_CLASS] = ELFCLASS64;
  file.head.e_ident[EI_DATA] = ELFDATA2LSB;
  file.head.e_type = ET_EXEC;
  file.head.e_machine = EM_X86_64;
  file.head.e_entry = 0x1000000;
  file.head.e_phoff = sizeof file.head;
  file.head.e_phentsize = sizeof file.segment;
  file.head.e_phnum = 1;
  file.segment.p_type = PT_LOAD;
  file.segment.p_offset = 0;
  file.segment.p_filesz = file.segment.p_memsz = sizeof file;
  strcpy (file.banner, BANNER);
  memcpy (file.words, BASE_WORDS, sizeof file.words);
  GByteArray *bytes = g_byte_array_new ();
  g_byte_array_append (bytes, (const guint8 *)&file, sizeof file);
  return bytes;
}

/* A module as small as one can be: a .modinfo and the section names. */
static inline GByteArray *
small_module (const char *depends)
{
  static const char names[] = "\0.modinfo\0.shstrtab";
  static const char vermagic[] = "vermagic=" VERSION " SMP mod_unload";
  g_autofree char *first = g_strconcat ("depends=", depends, NULL);
  gsize info_length = strlen (first) + 1 + sizeof vermagic;
  g_autofree char *info = g_malloc (info_length);
  strcpy (info, first);
  memcpy (info + strlen (first) + 1, vermagic, sizeof vermagic);

  Elf64_Ehdr head = {
    .e_type = ET_REL, .e_machine = EM_X86_64, .e_shentsize = sizeof (Elf64_Shdr), .e_shnum = 3, .e_shstrndx = 2
  };
  memcpy (head.e_ident, ELFMAG, SELFMAG);
  head.e_ident[EI_CLASS] = ELFCLASS64;
  head.e_ident[EI_DATA] = ELFDATA2LSB;
  head.e_shoff = sizeof head + info_length + sizeof names;
  Elf64_Shdr sections[3] = {
    { 0 },
    { .sh_name = 1, .sh_type = SHT_PROGBITS, .sh_offset = sizeof head, .sh_size = info_length },
    { .sh_name = 10, .sh_type = SHT_STRTAB, .sh_offset = sizeof head + info_length, .sh_size = sizeof names },
  };
  GByteArray *bytes = g_byte_array_new ();
  g_byte_array_append (bytes, (const guint8 *)&head, sizeof head);
  g_byte_array_append (bytes, (const guint8 *)info, (guint)info_length);
  g_byte_array_append (bytes, (const guint8 *)names, sizeof names);
  g_byte_array_append (bytes, (const guint8 *)sections, sizeof sections);
  return bytes;
}
