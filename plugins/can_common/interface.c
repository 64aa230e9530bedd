/* interface.c - see interface.h. */
#include "interface.h"

#include <errno.h>
#include <linux/can.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

int interface_bind(int fd, const char *name)
{
    struct sockaddr_can address = {.can_family = AF_CAN};
    struct ifreq request = {.ifr_flags = 0};

    memcpy(request.ifr_name, name, strlen(name) + 1);
    if (ioctl(fd, SIOCGIFINDEX, &request) != 0)
        return -errno;
    address.can_ifindex = request.ifr_ifindex;
    if (ioctl(fd, SIOCGIFHWADDR, &request) != 0)
        return -errno;
    if (request.ifr_hwaddr.sa_family != ARPHRD_CAN)
        return -ENOTTY;
    if (ioctl(fd, SIOCGIFFLAGS, &request) != 0)
        return -errno;
    if ((request.ifr_flags & IFF_UP) == 0)
        return -ENETDOWN;
    return bind(fd, (struct sockaddr *)&address, sizeof address) == 0 ? 0 : -errno;
}

const char *interface_advice(int error)
{
    switch (-error) {
    case EAFNOSUPPORT:
    case EPROTONOSUPPORT:
        return "the kernel has no CAN sockets (modprobe can-raw)";
    case ENODEV:
        return "there is no such interface (ip -brief link shows which there are)";
    case ENOTTY:
        return "it is no CAN interface";
    case ENETDOWN:
        return "it is down (ip link set NAME up type can bitrate 250000)";
    default:
        return strerror(-error);
    }
}
